# Retrain the bundle that ships: static CNN, temporal heads, fusion, manifest, model card.  About two hours on two cores.
# DATA: folder with ferplus_train.npz and ferplus_valid.npz (the `stills` layout).  Started again, it continues.
.PHONY: train-default
train-default:
	@test -n "$(DATA)" || { echo "usage: make train-default DATA=folder with *train*.npz and *valid*.npz"; exit 2; }
	.venv/bin/python -m worker train --recipe default --layout stills --data "$(DATA)" \
		--out model_store/bundles/default --run-dir runs/default --resume --name default --version "$(or $(VERSION),1)"
