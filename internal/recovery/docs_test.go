package recovery

import (
	"os"
	"strings"
	"testing"
)

// TestTheDocumentHasTheTable: the page shows the paths as the program acts by
// them.
func TestTheDocumentHasTheTable(t *testing.T) {
	const page = "../../docs/flows/recovery.md"
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if table := (Settings{}).Table(); !strings.Contains(string(b), "\n"+table+"\n") {
		t.Errorf("%s does not have this table:\n%s", page, table)
	}
}
