"""HTTP under `/v1`: what may be sent, who may send it, and what is answered."""
