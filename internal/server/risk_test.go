package server

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestPlacesFileMissing: a file of places that cannot be read stops the start, with
// its name; scoring without places would be another thing than what was asked for.
func TestPlacesFileMissing(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	cfg.Risk.PlacesFile = filepath.Join(t.TempDir(), "none.mmdb")
	_, err := OpenState(t.Context(), cfg, Options{Migrate: true})
	if err == nil || !strings.Contains(err.Error(), "none.mmdb") {
		t.Errorf("%v", err)
	}
}
