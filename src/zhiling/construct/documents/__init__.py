"""Rows from documents: questions and answers, FAQs, summaries and extractions, each checked against the passage that it comes from."""
