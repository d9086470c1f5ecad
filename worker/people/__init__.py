"""Which tracks of one video are the same person: best faces, embeddings, groups.  Nothing of it leaves the process."""
