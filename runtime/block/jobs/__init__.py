"""Work on whole images: copy, compare, commit, rebase, measure."""
