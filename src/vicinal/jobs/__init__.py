"""One run, from the request to the result; trying it first, and running it again."""
