"""Groups the tracks of one video by person: best faces, embeddings, clustering.  Embeddings never leave the process."""
