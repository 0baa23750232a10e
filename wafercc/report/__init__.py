"""Reports: tables, summaries and pictures of a placed program."""
