"""Test servers that speak the providers' protocols on 127.0.0.1, each a process of its own."""
