"""Recorded results: a folder of files with one JSON object a line, xz-compressed, described in its README."""
