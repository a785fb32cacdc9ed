"""What needs no network: checks, codecs and the meaning of statuses, the same for every transport."""
