"""What the pages share: frame, selection, player, progress, empty states. The only package besides the pages that uses Streamlit."""
