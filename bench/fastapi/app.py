"""The rival of the list page: FastAPI and asyncpg, as one would write them first. The same rights, rows and fields, from a database that is the same."""

import os
import uuid
from contextlib import asynccontextmanager
from datetime import datetime

import asyncpg
import jwt
from fastapi import Depends, FastAPI, Header, HTTPException, Query
from pydantic import BaseModel

SECRET = os.environ["JWT_SECRET"]
PAGE = """
SELECT i.id, i.collection_id, i.title, i.source_url, i.version, i.created_by, i.updated_by, i.created_at, i.updated_at, m.role AS my_role,
       coalesce(s.indexed_version, 0) >= i.version AS indexed,
       ARRAY(SELECT t.name FROM item_tags it JOIN tags t ON t.id = it.tag_id WHERE it.item_id = i.id ORDER BY t.name) AS tags
FROM items i
JOIN collections c ON c.id = i.collection_id AND c.deleted_at IS NULL
JOIN memberships m ON m.collection_id = i.collection_id AND m.user_id = $1
LEFT JOIN item_index_state s ON s.item_id = i.id
WHERE i.collection_id = $2 AND i.deleted_at IS NULL
ORDER BY i.id DESC
LIMIT $3
"""


class Item(BaseModel):
    id: uuid.UUID
    collection_id: uuid.UUID
    title: str
    source_url: str | None
    tags: list[str]
    version: int
    search_state: str
    my_role: str
    created_by: uuid.UUID
    updated_by: uuid.UUID
    created_at: datetime
    updated_at: datetime


class Page(BaseModel):
    items: list[Item]


@asynccontextmanager
async def lifespan(app: FastAPI):
    app.state.pool = await asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=4, max_size=16)
    yield
    await app.state.pool.close()


app = FastAPI(lifespan=lifespan)


def caller(authorization: str = Header()) -> uuid.UUID:
    try:
        claims = jwt.decode(authorization.removeprefix("Bearer "), SECRET, algorithms=["HS256"])
    except jwt.InvalidTokenError:
        raise HTTPException(401) from None
    return uuid.UUID(claims["sub"])


@app.get("/token")
async def token():
    return {"token": jwt.encode({"sub": os.environ["USER_ID"]}, SECRET, algorithm="HS256")}


@app.get("/v1/items", response_model=Page)
async def list_items(collection_id: uuid.UUID, limit: int = Query(20, ge=1, le=100), user: uuid.UUID = Depends(caller)):
    async with app.state.pool.acquire() as connection:
        rows = await connection.fetch(PAGE, user, collection_id, limit)
    return Page(items=[Item(search_state="indexed" if row["indexed"] else "indexing", **row) for row in rows])
