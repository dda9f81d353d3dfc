"""The worker process of an encoder: embeddings and reranking."""
