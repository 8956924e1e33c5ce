// Package promtext reads metrics as Prometheus does, for tests: with its own parser and the
// rules of its promtool.
package promtext

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Read gives the value of each series, by its name and its labels but for those left out, in
// order: `name{a="x",b="y"}`. It fails the test if the text is none that can be read, if a
// rule of promtool's is not kept, or if a series is there twice.
func Read(t testing.TB, text string, without ...string) map[string]float64 {
	t.Helper()
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	out, seen := map[string]float64{}, map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(families)) {
		for _, m := range families[name].Metric {
			whole, short := series(name, m.Label, nil), series(name, m.Label, without)
			if seen[whole] {
				t.Errorf("%s is there twice", whole)
			}
			seen[whole] = true
			out[short] = m.GetGauge().GetValue() + m.GetCounter().GetValue() // it is one of them
		}
	}
	return out
}

func series(name string, labels []*dto.LabelPair, without []string) string {
	var parts []string
	for _, l := range labels {
		if !slices.Contains(without, l.GetName()) {
			parts = append(parts, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
		}
	}
	if slices.Sort(parts); len(parts) > 0 {
		name += "{" + strings.Join(parts, ",") + "}"
	}
	return name
}
