"""Building blocks: data, models, optim, evaluation, report; training, search and serving on top of them."""
