"""Environments, one file a family; `rfenvs.registry.TABLE` lists their ids."""
