"""What is known of the files in watched folders."""

from edge_app.store.folders import SkippedFiles


def test_what_folders_hold_and_is_not_taken_is_what_was_seen_last(store):
    webp, archive = SkippedFiles("a", "WebP", 3, "2026-01-02"), SkippedFiles("b", "ZIP", 1, "2026-01-03")
    store.set_skipped_files("a", [SkippedFiles("a", "GIF", 1, "2026-01-01")])
    store.set_skipped_files("b", [archive])
    store.set_skipped_files("a", [webp])
    assert store.skipped_files() == [webp, archive]
    store.set_skipped_files("b", [])
    assert store.skipped_files() == [webp]
