"""What each address answers. Nothing here knows labels: it turns requests into calls of the sitting, and back."""

import gzip
import json
import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from instseg.errors import InstsegError, UsageError
from instseg.labelling.journal import StorageError
from instseg.labelling.server.images import NoSuchImageError

if TYPE_CHECKING:
    from instseg.labelling.server.sitting import Sitting

STATIC = Path(__file__).parent / "static"
_PAGE = re.compile(r"[A-Za-z0-9_-]{8,64}")
# Of tiles of labels; the next levels are hardly smaller and take several times as long.
_COMPRESSION = 1
# Outcomes of actions that are given again where the page asks again, and characters of the names of these actions.
_REMEMBERED, _LONGEST_KEY = 200, 64
# Numbers and names of classes.
_MOST_CLASSES, _LONGEST_NAME = 255, 100


class LookOnlyError(InstsegError):
    """Another page holds the folder."""


def make_routes(sitting: "Sitting") -> list[Route | Mount]:
    """Return all addresses of the server."""
    calls = _Calls(sitting)
    return [
        Route("/", _page),
        Mount("/static", StaticFiles(directory=STATIC)),
        Route("/api/folder", _answers(calls.folder)),
        Route("/api/images/{index:int}", _answers(calls.image)),
        Route("/api/images/{index:int}/pixels/{level:int}/{row:int}/{column:int}", _answers(calls.pixels)),
        Route("/api/images/{index:int}/labels/{level:int}/{row:int}/{column:int}", _answers(calls.labels)),
        Route("/api/images/{index:int}/objects", _answers(calls.objects)),
        Route("/api/images/{index:int}/actions", _answers(calls.act), methods=["POST"]),
        Route("/api/images/{index:int}/view", _answers(calls.view), methods=["POST"]),
        Route("/api/status", _answers(calls.status)),
        Route("/api/take-over", _answers(calls.take_over), methods=["POST"]),
        Route("/api/leave", _answers(calls.leave), methods=["POST"]),
        Route("/api/train", _answers(calls.train), methods=["POST"]),
        Route("/api/train/stop", _answers(calls.stop_training), methods=["POST"]),
        Route("/api/classes", _answers(calls.classes), methods=["POST"]),
    ]


async def _page(request: Request) -> Response:
    content = await run_in_threadpool((STATIC / "index.html").read_bytes)
    return Response(content, media_type="text/html; charset=utf-8")


def _answers(call: Callable[[Request, dict[str, Any]], Response]) -> Callable[[Request], Any]:
    """Return an endpoint that has a thread do the work, and turns errors into answers."""

    async def answer(request: Request) -> Response:
        try:
            content = await _content(request)
            return await run_in_threadpool(call, request, content)
        except LookOnlyError as error:
            return _error(409, error)
        except NoSuchImageError as error:
            return _error(404, error)
        except StorageError as error:
            return _error(507, error)
        except InstsegError as error:
            return _error(422, error)
        except MemoryError:
            return _error(503, InstsegError("there is not enough memory for this"))

    return answer


async def _content(request: Request) -> dict[str, Any]:
    if request.method != "POST":
        return {}
    body = await request.body()
    try:
        content = json.loads(body) if body else {}
    except (ValueError, RecursionError) as error:
        raise UsageError("the request is no JSON; reload the page") from error
    if not isinstance(content, dict):
        raise UsageError("the request is no JSON object; reload the page")
    return content


def _error(status: int, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, status)


class _Calls:
    """An answer for each address."""

    def __init__(self, sitting: "Sitting") -> None:
        self._sitting = sitting
        self._acting = threading.Lock()
        self._outcomes: OrderedDict[tuple[int, str], dict[str, Any]] = OrderedDict()

    def folder(self, request: Request, content: dict[str, Any]) -> Response:
        return JSONResponse(self._sitting.folder_view())

    def image(self, request: Request, content: dict[str, Any]) -> Response:
        return JSONResponse(self._sitting.image_view(request.path_params["index"]))

    def pixels(self, request: Request, content: dict[str, Any]) -> Response:
        place = request.path_params
        query = {name: text.split(",") for name, text in request.query_params.items() if text}
        png = self._sitting.images.png(place["index"], place["level"], place["row"], place["column"], query)
        return Response(png, media_type="image/png")

    def labels(self, request: Request, content: dict[str, Any]) -> Response:
        place = request.path_params
        version, labels = self._sitting.labels(place["index"], place["level"], place["row"], place["column"])
        body = gzip.compress(np.asarray(labels, "<i4").tobytes(), _COMPRESSION)
        headers = {"X-Height": str(labels.shape[0]), "X-Width": str(labels.shape[1]), "X-Version": str(version)}
        headers["Content-Encoding"] = "gzip"
        return Response(body, headers=headers, media_type="application/octet-stream")

    def objects(self, request: Request, content: dict[str, Any]) -> Response:
        return JSONResponse(self._sitting.objects(request.path_params["index"]))

    def act(self, request: Request, content: dict[str, Any]) -> Response:
        self._require_writer(request)
        index, once = request.path_params["index"], request.headers.get("x-action")
        key = None if once is None or len(once) > _LONGEST_KEY else (index, once)
        if key is None:
            return JSONResponse(self._sitting.act(index, content))
        # An answer may be lost on the way, and the page asks again: the action is not to be done twice.
        with self._acting:
            if key not in self._outcomes:
                self._outcomes[key] = self._sitting.act(index, content)
                while len(self._outcomes) > _REMEMBERED:
                    self._outcomes.popitem(last=False)
            return JSONResponse(self._outcomes[key])

    def view(self, request: Request, content: dict[str, Any]) -> Response:
        box = content.get("box")
        if not isinstance(box, list) or len(box) != 4 or not all(_is_number(value) for value in box):
            raise UsageError(f"box is {box!r}, expected four numbers", parameter="box")
        return JSONResponse(self._sitting.look(request.path_params["index"], box))

    def status(self, request: Request, content: dict[str, Any]) -> Response:
        page = request.query_params.get("page", "")
        return JSONResponse(self._sitting.status(page if _PAGE.fullmatch(page) else None))

    def take_over(self, request: Request, content: dict[str, Any]) -> Response:
        self._sitting.writer.take_over(_page_id(request, content))
        return JSONResponse({"writer": True})

    def leave(self, request: Request, content: dict[str, Any]) -> Response:
        self._sitting.writer.leave(_page_id(request, content))
        return JSONResponse({"writer": False})

    def train(self, request: Request, content: dict[str, Any]) -> Response:
        self._require_writer(request)
        minutes = content.get("minutes", 1)
        if not _is_number(minutes) or not 0 < minutes <= 600:
            raise UsageError(f"minutes is {minutes!r}, expected a number above 0, up to 600", parameter="minutes")
        return JSONResponse(self._sitting.start_training(float(minutes)))

    def stop_training(self, request: Request, content: dict[str, Any]) -> Response:
        self._require_writer(request)
        return JSONResponse(self._sitting.stop_training())

    def classes(self, request: Request, content: dict[str, Any]) -> Response:
        self._require_writer(request)
        return JSONResponse(self._sitting.set_classes(parse_classes(content.get("classes"))))

    def _require_writer(self, request: Request) -> None:
        if not self._sitting.writer.claim(_page_id(request, {})):
            raise LookOnlyError("another page is labelling this folder; take over there, or look only")


def parse_classes(content: Any) -> dict[int, str]:
    """Return the names of classes by number, from [{"id": 1, "name": "..."}].

    Raises
    ------
    UsageError
        If it is something else, or a number or a name is there twice.
    """
    if not isinstance(content, list) or len(content) > _MOST_CLASSES:
        raise UsageError(f"classes are no list of up to {_MOST_CLASSES} of them; reload the page")
    classes: dict[int, str] = {}
    for one in content:
        number, name = (one.get("id"), one.get("name")) if isinstance(one, dict) else (None, None)
        if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= _MOST_CLASSES:
            raise UsageError(f"the number of a class is {number!r}, expected 1 to {_MOST_CLASSES}")
        if not isinstance(name, str) or not name.strip() or len(name) > _LONGEST_NAME:
            raise UsageError(f"class {number} has no name, expected 1 to {_LONGEST_NAME} characters")
        if number in classes or name.strip() in classes.values():
            raise UsageError(
                f"class {number}, {name.strip()}, is there twice; give each a number and a name of its own"
            )
        classes[number] = name.strip()
    return classes


def _page_id(request: Request, content: dict[str, Any]) -> str:
    page = content.get("page", request.headers.get("x-page", ""))
    if not isinstance(page, str) or not _PAGE.fullmatch(page):
        raise UsageError("the request names no page in X-Page; reload the page")
    return page


def _is_number(value: object) -> bool:
    # NaN is no number that can be compared, and JSON's true is one for Python.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12
