package internal_test

import (
	"testing"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/notice"
)

// TestSomebodyDecidedWhoIsTold keeps the table of notices whole: whoever adds a
// kind of record says in internal/notice/table.go who is told of it, be it
// nobody.
func TestSomebodyDecidedWhoIsTold(t *testing.T) {
	for _, k := range audit.Kinds() {
		if !notice.Known(k) {
			t.Errorf("internal/notice/table.go does not say who is told of %s", k)
		}
	}
}
