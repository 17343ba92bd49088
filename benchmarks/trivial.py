"""The baseline of row 1: FastAPI, one worker, a pydantic body, an answer, and nothing kept."""

import sys

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()


class Job(BaseModel):
    """The body that the load sends."""

    argv: list[str]
    name: str = ""
    account: str = ""
    nodes: int = 1


@app.post("/v1/jobs", status_code=201)
async def submit(job: Job) -> dict[str, int]:
    """Do nothing."""
    return {"first_job": 1, "count": 1}


if __name__ == "__main__":
    where = {"uds": sys.argv[1]} if "/" in sys.argv[1] else {"port": int(sys.argv[1])}
    uvicorn.run(app, log_level="warning", access_log=False, **where)
