"""The data layer: what is stored, where it is stored, and nothing about pages or gradients.

Lives here: records, settings, the SQLite store, the adapter registry, base-model sources, the tokenizer.
May not live here: gradio, torch, peft. `chat_app` and `learner` import this package and never each other.
"""
