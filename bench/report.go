package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"text/tabwriter"
	"time"

	"github.com/countersign-dev/countersign/internal/file"
)

// figures is one line of the table and of result.json.
type figures struct {
	Workload    string  `json:"workload"`
	Store       string  `json:"store"`
	Connections int     `json:"connections"`
	CPU         float64 `json:"cpu_ms"`       // of the server and its database, per request
	FloorCPU    float64 `json:"floor_cpu_ms"` // of the floor in the same run; 0: not measured
	Ratio       float64 `json:"ratio"`        // 0: no floor
	Rate        float64 `json:"rps"`
	P50         float64 `json:"p50_ms"`
	P99         float64 `json:"p99_ms"`
	RSS         float64 `json:"rss_mb"` // of the server alone, after the cell

	requests int
}

// compare sets each cell beside the floor's for the same workload and number
// of connections.
func compare(cells []*cell) (rows []figures) {
	type key struct {
		workload, store string
		connections     int
	}
	floors := map[key]float64{}
	for _, c := range cells {
		floors[key{c.workload, c.system.Store(), c.connections}] = c.perRequest()
	}
	for _, c := range cells {
		if c.result.Requests == 0 {
			continue // its fault is told apart
		}
		f := figures{
			Workload: c.workload, Store: c.system.Store(), Connections: c.connections,
			CPU: round(c.perRequest()), FloorCPU: round(floors[key{c.workload, floorOf[c.workload], c.connections}]),
			Rate: math.Round(c.result.PerSecond()),
			P50:  milliseconds(c.result.Quantile(0.5)), P99: milliseconds(c.result.Quantile(0.99)),
			RSS:      megabytes(c.rss),
			requests: c.result.Requests,
		}
		if f.FloorCPU > 0 {
			f.Ratio = math.Round(100*f.CPU/f.FloorCPU) / 100
		}
		rows = append(rows, f)
	}
	return rows
}

func round(ms float64) float64 { return math.Round(ms*10000) / 10000 }

func milliseconds(d time.Duration) float64 { return math.Round(d.Seconds()*1e6) / 1000 }

func megabytes(n int64) float64 { return math.Round(float64(n)/1e5) / 10 }

// printTable writes the figures for people.
func printTable(out io.Writer, rows []figures) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "workload\tstore\tconns\tCPU ms\tfloor ms\tratio\treq/s\tp50 ms\tp99 ms\tRSS MB\tanswers\t")
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%s\t%d\t%.3f\t%.3f\t%.2f\t%.0f\t%.2f\t%.2f\t%.1f\t%d\t\n",
			r.Workload, r.Store, r.Connections, r.CPU, r.FloorCPU, r.Ratio, r.Rate, r.P50, r.P99, r.RSS, r.requests)
	}
	w.Flush()
}

// printLifetimes writes start, memory and growth of each system.
func printLifetimes(out io.Writer, systems []System, life map[System]*lifetime) {
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "store\tready after ms\tidle MB\tafter load MB\tdatabase grew MB\t")
	for _, s := range systems {
		l := life[s]
		fmt.Fprintf(w, "%s\t%.0f\t%.1f\t%.1f\t%.1f\t\n", s.Store(), milliseconds(s.Started()),
			megabytes(l.rss), megabytes(l.rssAfter), megabytes(l.bytesAfter-l.bytes))
	}
	w.Flush()
}

// writeJSON writes the figures for programs, whole or not at all.
func writeJSON(path string, rows []figures) error {
	text, err := json.MarshalIndent(rows, "", "  ")
	if err != nil {
		return err
	}
	return file.Replace(path, append(text, '\n'), 0o600)
}
