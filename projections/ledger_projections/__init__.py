"""The answers that come with jobledger: one module, one question. Delete any, rebuild any."""
