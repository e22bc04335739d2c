# SPDX-License-Identifier: Apache-2.0
"""How is a Certificate found by a server name that it is shown for?"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from pylae.admin.answers import Refusal, message
from pylae.admin.crud import DISABLED, Crud, Handlers, parameter
from pylae.database.changes import Row
from pylae.database.dao import Dao, ReadDao
from pylae.schema.validate import is_uuid

TABLE = "certificates"


def endpoints(crud: Crud) -> dict[str, Handlers]:
    """Handlers by path."""

    async def put(request: Request) -> Response:
        key = parameter(request, TABLE)
        values = await crud.values(request, TABLE)

        def work(dao: Dao) -> Row:
            if is_uuid(key):
                return dao.upsert(TABLE, dao.select(TABLE, key), crud.keyed(TABLE, key, values))
            found = _find_by_name(dao, key)
            if found is not None:
                return dao.upsert(TABLE, found, {**values, "id": found["id"]})
            given = values.get("snis")
            names = [key] if given is None else given
            if isinstance(names, list) and key not in names:
                names = [key, *names]
            return dao.insert(TABLE, {**values, "snis": names})

        return crud.shown(TABLE, await crud.database.write(work))

    return {
        "/certificates/{certificates}": crud.entity(TABLE, _find, put),
        "/certificates/{certificates}/snis": crud.nested_collection("snis", "certificate", crud.catalogue.entities[TABLE], _find),
        "/snis/{snis}/certificate": DISABLED,
    }


def _find(dao: ReadDao, key: str) -> Row | None:
    """The Certificate of an id, or of a server name.

    Raises:
        Refusal: 404, nobody has the name.
    """
    if is_uuid(key):
        return dao.select(TABLE, key)
    found = _find_by_name(dao, key)
    if found is None:
        raise Refusal(message(404, "SNI not found"))
    return found


def _find_by_name(dao: ReadDao, name: str) -> Row | None:
    sni = dao.find("snis", {"name": name})
    return None if sni is None else dao.get(TABLE, sni["certificate"]["id"])
