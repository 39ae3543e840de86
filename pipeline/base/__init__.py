"""The ground floor: errors, atomic files, digests, schema validation, row formats. Imports nothing of abiding."""
