package chrome

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// Look is how a page is looked at.
type Look struct {
	Dark  bool
	Width int // CSS pixels; 0 is 1280
}

func (l Look) String() string {
	scheme := "light"
	if l.Dark {
		scheme = "dark"
	}
	return fmt.Sprintf("%s-%d", scheme, l.width())
}

func (l Look) width() int {
	if l.Width == 0 {
		return 1280
	}
	return l.Width
}

// Looks are the ones that every page is checked in: light, dark, and the
// narrowest that WCAG 1.4.10 asks for, in both.
var Looks = []Look{{}, {Dark: true}, {Width: 320}, {Dark: true, Width: 320}}

// See shows the page in a look, until the next See.
func (p *Page) See(l Look) {
	p.t.Helper()
	scheme := "light"
	if l.Dark {
		scheme = "dark"
	}
	call(p, "emulate a colour scheme", emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: scheme},
			{Name: "prefers-reduced-motion", Value: "reduce"},
		},
	})
	call(p, "emulate a width", emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: int64(l.width()), Height: 900, DeviceScaleFactor: 1,
	})
}

// Screenshot writes the whole page as <name>-<look>.png into the folder that
// COUNTERSIGN_SCREENSHOTS names, and does nothing without one.
func (p *Page) Screenshot(name string, l Look) {
	p.t.Helper()
	dir := os.Getenv("COUNTERSIGN_SCREENSHOTS")
	if dir == "" || p.ctx.Err() != nil {
		return
	}
	p.See(l)
	beyond := true
	shot := call(p, "take a screenshot", page.CaptureScreenshot, page.CaptureScreenshotParams{
		Format: page.CaptureScreenshotFormatPng, CaptureBeyondViewport: &beyond,
	})
	file := strings.NewReplacer("/", "-", " ", "-").Replace(name) + "-" + l.String() + ".png"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, file), shot.Data, 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// Inspect checks the page as it stands in each of Looks: axe-core finds
// nothing, and nothing is wider than the window (WCAG 1.4.10). It takes a
// screenshot of each, and leaves the page as it was.
func (p *Page) Inspect(name string) {
	p.t.Helper()
	for _, l := range Looks {
		p.See(l)
		if over := Eval[int](p, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); over > 0 {
			p.t.Errorf("chrome: %s in %s is %d pixels wider than the window", name, l, over)
		}
		for _, v := range p.Axe() {
			p.t.Errorf("chrome: %s in %s: %s", name, l, v)
		}
		p.Screenshot(name, l)
	}
	p.See(Look{})
}

// Violation is what axe-core found.
type Violation struct {
	ID      string   `json:"id"`
	Impact  string   `json:"impact"`
	Help    string   `json:"help"`
	Targets []string `json:"targets"` // where, each a selector and why
}

func (v Violation) String() string {
	return fmt.Sprintf("axe %s (%s): %s\n  %s", v.ID, v.Impact, v.Help, strings.Join(v.Targets, "\n  "))
}

// Axe runs axe-core's rules for WCAG 2.2 A and AA and its best practices on
// the page as it stands. Without axe-core it checks nothing and says so in the
// test's log; where a browser is required, that fails the test.
func (p *Page) Axe() (found []Violation) {
	p.t.Helper()
	source, err := os.ReadFile(axePath())
	if err != nil {
		if Required() {
			p.t.Fatalf("chrome: axe-core is not installed (make tools): %v", err)
		}
		p.t.Log("chrome: accessibility not checked: axe-core is not installed (make tools)")
		return nil
	}
	if !Eval[bool](p, `typeof window.axe === 'object'`) {
		step(p, "load axe-core", chromedp.Evaluate[chromedp.Void](string(source)))
	}
	return Eval[[]Violation](p, `axe.run(document, {
		resultTypes: ['violations'],
		runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'],
	}).then(r => r.violations.map(v => ({
		id: v.id, impact: v.impact || '', help: v.help,
		targets: v.nodes.map(n => n.target.join(' ') + ': ' + (n.failureSummary || '').replace(/\s+/g, ' ')),
	})))`)
}

// axePath is the file of axe-core that npm installed in test/browser, found
// from the test's folder upwards; "" if the module's root is not above it.
func axePath() string {
	dir, err := os.Getwd()
	for err == nil && dir != filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, "test", "browser", "node_modules", "axe-core", "axe.min.js")
		}
		dir = filepath.Dir(dir)
	}
	return ""
}
