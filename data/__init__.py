"""The data layer: what is stored, where it is stored, and nothing about pages or gradients.

Lives here: `records/`; `store/`, the SQLite file and all SQL; `sync/`, hosts that meet; `base_models/`, where they come from and their
tokenizer; `texts/`; beside them the adapter registry, imports, settings, errors and what people are told.
May not live here: gradio, torch, peft. `chat_app` and `learner` import this package and never each other.
"""
