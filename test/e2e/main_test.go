// Package e2e walks the main job as a newcomer meets it: the real countersignd
// with its sandbox, the real countersign, the real sample API, and a real
// Chromium with virtual authenticators. What one part does alone is tested
// beside that part.
package e2e

import (
	"os"
	"testing"

	"github.com/countersign-dev/countersign/test/browser/chrome"
	"github.com/countersign-dev/countersign/test/internal/program"
	"github.com/countersign-dev/countersign/test/pgtest"
)

// openVariable makes this test's program a browser for the command line: it
// writes the address that it is given to the file named here.
const openVariable = "COUNTERSIGN_E2E_OPENED"

type tests func() int

func (f tests) Run() int { return f() }

func TestMain(m *testing.M) {
	if file := os.Getenv(openVariable); file != "" {
		os.Exit(opened(file, os.Args[len(os.Args)-1]))
	}
	os.Exit(program.Run(tests(func() int {
		return pgtest.Run(tests(func() int { return chrome.Run(m) }))
	})))
}

// opened hands an address over, whole or not at all.
func opened(file, address string) int {
	if os.WriteFile(file+".new", []byte(address), 0o600) != nil || os.Rename(file+".new", file) != nil {
		return 1
	}
	return 0
}
