"""How a conversation is put to a base model, which has no chat template of its own: as a plain transcript."""

TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] }}\n\n"
    "{% elif message['role'] == 'user' %}User: {{ message['content'] }}\n"
    "{% else %}Assistant: {{ message['content'] }}\n{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
STOP = "\nUser:"
"""A base model goes on to write the user's next turn; this ends its reply before that."""
