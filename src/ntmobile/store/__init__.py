"""What survives a restart: users, nodes, keys, registrations, foreign domains, audit."""

from ntmobile.store.audit import Decision
from ntmobile.store.authorities import Authority
from ntmobile.store.database import create
from ntmobile.store.errors import StoreUnavailable
from ntmobile.store.federation import ForeignDomain
from ntmobile.store.nodes import Enrolled, Enrolment, StoredDevice
from ntmobile.store.registrations import Registration
from ntmobile.store.settings import Counter
from ntmobile.store.store import Store
from ntmobile.store.users import User

__all__ = [
    "Authority",
    "Counter",
    "Decision",
    "Enrolled",
    "Enrolment",
    "ForeignDomain",
    "Registration",
    "Store",
    "StoreUnavailable",
    "StoredDevice",
    "User",
    "create",
]
