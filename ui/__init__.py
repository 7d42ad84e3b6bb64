"""What the pages share: frame, selection, player, progress, empty states. Only it and the pages use Streamlit."""
