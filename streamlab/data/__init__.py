"""Sources: labelled images of two splits, checked before anything is trained on them."""
