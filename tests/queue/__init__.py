# noqa: A005 - the folder mirrors posthouse.queue
