"""One module per vendor; nobody else imports it, and its exceptions stop here."""
