"""The checking service as an ASGI application: uploads, jobs, progress, reports and the page.

``create_app(settings)`` makes it. Nothing here reads what is in an uploaded file.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel

from devilgan_lite.apps.service import answers
from devilgan_lite.apps.service.desk import Desk, later
from devilgan_lite.apps.service.guard import Guard
from devilgan_lite.apps.service.log import log
from devilgan_lite.apps.service.settings import Settings
from devilgan_lite.apps.service.store import Job
from devilgan_lite.apps.service.supervisor import Supervisor
from devilgan_lite.checks import MOST_LATENT, cut
from devilgan_lite.version import __version__

HERE = Path(__file__).parent
SANDBOX = "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'none'"
BODY = {"schema": {"type": "string", "format": "binary"}}
FORM = {"schema": {"type": "object", "properties": {"file": {"type": "string", "format": "binary"}}}}
UPLOAD = {"requestBody": {"content": {"application/octet-stream": BODY, "multipart/form-data": FORM}}}


class Scan(BaseModel):
    """A job. ``state``: waiting, running, done or failed. ``verdict``: clean, suspicious, backdoored, ... or empty."""

    id: str
    name: str
    bytes: int
    sha256: str
    settings: dict[str, Any]
    state: str
    verdict: str
    sentence: str
    attempts: int
    created: float
    ended: float | None

    @classmethod
    def of(cls, job: Job) -> "Scan":
        """What a client may see of a row."""
        return cls(
            **{name: getattr(job, name) for name in cls.model_fields if name != "settings"},
            settings=json.loads(job.settings),
        )


def create_app(settings: Settings) -> Guard:
    """The application; ``.app`` of the result is the FastAPI one. It runs its workers as long as it lives."""
    desk = Desk(settings)
    store, access = desk.store, desk.access
    supervisor = Supervisor(settings)

    async def sweep_often() -> None:
        while True:
            await asyncio.sleep(settings.sweep_seconds)
            try:
                await asyncio.to_thread(desk.sweep)
            except Exception as error:  # a database that is away comes back
                log("sweep_failed", error=type(error).__name__)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        desk.sweep()
        supervisor.start()
        sweeper = asyncio.create_task(sweep_often())
        yield
        sweeper.cancel()
        await asyncio.to_thread(supervisor.stop)
        store.close()

    app = FastAPI(
        title="devilgan_lite: checking service", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None
    )
    app.state.desk = desk

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return JSONResponse({"detail": cut(f"{first['loc'][-1]} is not valid: {first['msg']}.", 200)}, 422)

    @app.exception_handler(Exception)
    async def broken(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": "The service made a mistake; its log says of which kind."}, 500)

    bearer = HTTPBearer(auto_error=False, description="Only where the service has keys.")

    def owner_of(credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> str:
        owner = access.owner(credentials.credentials if credentials else "")
        if owner is None:
            raise HTTPException(401, "Send your key: `Authorization: Bearer KEY`.", {"WWW-Authenticate": "Bearer"})
        return owner

    Owner = Annotated[str, Depends(owner_of)]

    def own_job(id: str, owner: str) -> Job:
        if (job := store.get(id, owner)) is None:  # another key's job is as unknown as one that never was
            raise HTTPException(404, "There is no such scan.")
        return job

    @app.post("/scans", status_code=202, openapi_extra=UPLOAD, responses={200: {"model": Scan}})
    async def upload(
        request: Request,
        response: Response,
        owner: Owner,
        latent_dim: Annotated[int | None, Query(ge=1, le=MOST_LATENT)] = None,
        seed: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
        twin: bool = True,
    ) -> Scan:
        """Check a file: the bare bytes (its name percent-encoded in `X-Filename`), or a form with a part `file`.

        202: it waits in the queue. 200: the same bytes with the same settings are known, and this is their scan.
        """
        started = time.monotonic()
        id, received = await desk.take(request, owner)
        asked = {"latent_dim": latent_dim, "seed": seed, "twin": twin, "version": __version__}
        facts: dict[str, Any] = {"size": received.bytes, "sha256": received.sha256}
        job = await asyncio.to_thread(store.add, id, owner=owner, name=received.name, settings=asked, **facts)
        if job.id != id or job.state == "done":
            (settings.uploads / id).unlink(missing_ok=True)
            response.status_code = 200
        milliseconds = round(1000 * (time.monotonic() - started))
        log("upload", job=job.id, bytes=received.bytes, new=response.status_code != 200, milliseconds=milliseconds)
        return Scan.of(job)

    @app.get("/scans")
    def recent(owner: Owner) -> list[Scan]:
        """Your newest 50 scans."""
        return [Scan.of(job) for job in store.recent(owner)]

    @app.get("/scans/{id}")
    def one(id: str, owner: Owner) -> Scan:
        """The state of a scan."""
        return Scan.of(own_job(id, owner))

    @app.delete("/scans/{id}", status_code=204)
    def delete(id: str, owner: Owner) -> None:
        """Forget a scan with its report; a check that runs is ended."""
        own_job(id, owner)
        store.delete(id, owner)
        (settings.uploads / id).unlink(missing_ok=True)
        log("deleted", job=id)

    @app.get("/scans/{id}/events", response_class=StreamingResponse)
    def progress(id: str, owner: Owner, request: Request) -> StreamingResponse:
        """Progress as server-sent events: `job` (its state), `progress` (numbered), and `end`, after which it closes.

        History comes first; with `Last-Event-ID` only what came after that number.
        """
        own_job(id, owner)
        if desk.streams >= settings.streams:
            raise later("Too many progress streams are open; ask for /scans/{id} instead.", 10)
        last = request.headers.get("last-event-id", "")
        after = int(last) if last.isascii() and last.isdigit() and len(last) < 10 else 0
        return StreamingResponse(answers.stream(desk, id, owner, after), media_type="text/event-stream")

    def report_of(id: str, request: Request, token: str = "") -> dict[str, Any]:
        """The report, for its owner by key or by a link's token."""
        _, _, key = request.headers.get("authorization", "").partition(" ")
        owner = access.owner_by_link(id, token) if token else access.owner(key.strip())
        if owner is None:
            raise HTTPException(401, "Send your key: `Authorization: Bearer KEY`.", {"WWW-Authenticate": "Bearer"})
        job = own_job(id, owner)
        report = store.report(id)
        if report is None:
            state = job.sentence if job.state == "failed" else f"The scan is {job.state}."
            raise HTTPException(404 if job.state == "failed" else 409, f"There is no report. {state}")
        return report | {"file": {**report.get("file", {}), "name": job.name}}

    Report = Annotated[dict[str, Any], Depends(report_of)]

    @app.get("/scans/{id}/report.json")
    def report_json(report: Report, response: Response) -> dict[str, Any]:
        """The report as plain data."""
        response.headers.update(_file("json"))
        return report

    @app.get("/scans/{id}/report.html", response_class=HTMLResponse)
    def report_html(report: Report) -> HTMLResponse:
        """The report as a page that stands alone; it may run nothing and load nothing."""
        from devilgan_lite.report import page

        return HTMLResponse(page(report), headers={"content-security-policy": SANDBOX})

    @app.get("/scans/{id}/report.sarif")
    def report_sarif(report: Report) -> JSONResponse:
        """The report as SARIF 2.1.0, which code hosts show."""
        from devilgan_lite.report import sarif

        return JSONResponse(sarif([report]), headers=_file("sarif"), media_type="application/sarif+json")

    @app.post("/scans/{id}/link")
    def link(id: str, owner: Owner) -> dict[str, str]:
        """A token that opens this report without a key for five minutes: `report.html?token=...`."""
        own_job(id, owner)
        return {"token": access.link(id, owner)}

    @app.get("/healthz")
    def health() -> dict[str, Any]:
        """Whether the service works, and what a client should know before an upload."""
        queue = {"waiting": store.count("waiting"), "running": store.count("running"), "workers": supervisor.alive()}
        limits = {"keys": bool(settings.keys), "upload_bytes": settings.upload_bytes}
        return {"status": "ok", "version": __version__, **queue, **limits}

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return HTMLResponse(answers.page(app.openapi()))

    for address, name in (("/", "page.html"), ("/page.css", "page.css"), ("/page.js", "page.js")):
        app.add_api_route(address, _static(HERE / name), include_in_schema=False)
    return Guard(app, settings.hosts)


def _file(suffix: str) -> dict[str, str]:
    return {"content-disposition": f'attachment; filename="report.{suffix}"'}


def _static(path: Path) -> Any:
    def serve() -> FileResponse:
        return FileResponse(path)

    return serve
