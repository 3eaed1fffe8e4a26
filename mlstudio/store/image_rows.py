"""Images that were built or used, and how long each layer took to build."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, select
from sqlalchemy.dialects.sqlite import insert

from mlstudio.model.image import ImageRecord, Package
from mlstudio.store.run_rows import keep_document, read_documents
from mlstudio.store.schema import image, layer, run


def write_image(connection: Connection, record: ImageRecord) -> None:
    """Keep a record; one of the same image is replaced."""
    packages = json.dumps([[package.name, package.version, package.manager] for package in record.packages])
    values = {
        "tag": record.tag,
        "recipe_digest": record.recipe_digest,
        "dockerfile": keep_document(connection, record.dockerfile),
        "spec": record.spec_json,
        "base": record.base,
        "created": record.created,
        "size_bytes": record.size_bytes,
        "build_seconds": record.build_seconds,
        "cached_steps": record.cached_steps,
        "steps": record.steps,
        "packages": keep_document(connection, packages),
        "repo_digest": record.repo_digest,
        "recorded": select(func.coalesce(func.max(image.c.recorded), 0) + 1).scalar_subquery(),
    }
    statement = insert(image).values(id=record.id, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=[image.c.id], set_=values))


def read_images(
    connection: Connection, *conditions: ColumnElement[bool], limit: int | None = None
) -> list[ImageRecord]:
    """Records, newest first, each with the number of runs that used it."""
    uses = select(func.count()).where(run.c.image_id == image.c.id).scalar_subquery()
    query = select(image, uses.label("runs")).where(*conditions).order_by(image.c.recorded.desc())
    if limit is not None:
        query = query.limit(limit)
    return [_record(connection, row) for row in connection.execute(query)]


def read_image(connection: Connection, reference: str) -> ImageRecord | None:
    """By id, beginning of the id (with or without ``sha256:``, at least 6 characters), or tag; the newest of several."""
    exact = read_images(connection, (image.c.id == reference) | (image.c.tag == reference), limit=1)
    if exact:
        return exact[0]
    short = reference.removeprefix("sha256:")
    if len(short) < 6 or not short.isalnum():
        return None
    begin = f"sha256:{short}"
    found = read_images(connection, image.c.id >= begin, image.c.id < begin + "\U0010ffff", limit=1)
    return found[0] if found else None


def write_layer(connection: Connection, key: str, seconds: float) -> None:
    statement = insert(layer).values(key=key, seconds=seconds)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[layer.c.key], set_={"seconds": statement.excluded.seconds}
        )
    )


def read_layer(connection: Connection, key: str) -> float | None:
    return connection.execute(select(layer.c.seconds).where(layer.c.key == key)).scalar()


def _record(connection: Connection, row: Row[Any]) -> ImageRecord:
    texts = read_documents(connection, (row.dockerfile, row.packages))
    packages = json.loads(texts.get(row.packages, "[]"))
    return ImageRecord(
        id=row.id,
        tag=row.tag,
        recipe_digest=row.recipe_digest,
        dockerfile=texts.get(row.dockerfile, ""),
        spec_json=row.spec,
        base=row.base,
        created=row.created,
        size_bytes=row.size_bytes,
        build_seconds=row.build_seconds,
        cached_steps=row.cached_steps,
        steps=row.steps,
        packages=tuple(
            Package(name=name, version=version, manager=manager) for name, version, manager in packages
        ),
        repo_digest=row.repo_digest,
        runs=row.runs,
    )
