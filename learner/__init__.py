"""The learner: ratings -> rewards -> policy gradient -> gate -> a published adapter version.

Lives here: torch, peft and transformers model code, and everything that decides how a rating moves the model.
May not live here: pages, serving, gradio, SQL. The learner meets the chat app only through `data`.
"""
