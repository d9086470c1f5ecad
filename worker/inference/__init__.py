"""The pipeline of all stages, and the loading of bundle, engine and detector."""
