"""What is known of the files in watched folders."""

from edge_app.store.folders import NotTaken


def test_what_folders_hold_and_is_not_taken_is_what_was_seen_last(store):
    webp, archive = NotTaken("a", "WebP", 3, "2026-01-02"), NotTaken("b", "ZIP", 1, "2026-01-03")
    store.saw_not_taken("a", [NotTaken("a", "GIF", 1, "2026-01-01")])
    store.saw_not_taken("b", [archive])
    store.saw_not_taken("a", [webp])
    assert store.not_taken() == [webp, archive]
    store.saw_not_taken("b", [])
    assert store.not_taken() == [webp]
