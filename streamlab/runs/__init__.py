"""Run folders: everything about one run, written so that no kill can spoil it."""
