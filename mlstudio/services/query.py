"""The filter language, for those who show it: its names, its errors, its completion."""

from mlstudio.model.errors import QueryError
from mlstudio.store.query import Completion, CompletionItem
from mlstudio.store.query.names import ATTRIBUTES, FIELDS, written

__all__ = ["ATTRIBUTES", "FIELDS", "Completion", "CompletionItem", "QueryError", "written"]
