"""The filter language of the history: ``lr < 1e-3 and val.acc.max > 0.9 and "cnn" in tags and started > "2 days ago"``.

`parse` makes a tree of a text, `Names` knows what the words in it may mean, `condition` makes SQL with bound values of
it. Nothing is ever evaluated as a program. For users: docs/query.md.
"""

from mlstudio.model.errors import QueryError
from mlstudio.store.query.completion import Completion, CompletionItem, complete
from mlstudio.store.query.conditions import condition
from mlstudio.store.query.names import Names
from mlstudio.store.query.syntax import parse

__all__ = ["Completion", "CompletionItem", "Names", "QueryError", "complete", "condition", "parse"]
