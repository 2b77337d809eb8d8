"""A FastAPI application with an answer in JSON and one that streams server-sent events."""

import asyncio

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

app = FastAPI()


class Numbers(BaseModel):
    numbers: list[float]


class Count(BaseModel):
    to: int = Field(ge=1, le=10_000)
    seconds_between: float = Field(default=0.1, ge=0, le=10)


@app.get("/healthz")
def healthz():
    return {"ready": True}


@app.post("/sum")
async def total(numbers: Numbers):
    await asyncio.sleep(0.05)
    return {"sum": sum(numbers.numbers)}


@app.post("/count")
async def count(count: Count):
    async def events():
        for n in range(1, count.to + 1):
            yield f"data: {n}\n\n"
            await asyncio.sleep(count.seconds_between)
        yield "data: [DONE]\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")
