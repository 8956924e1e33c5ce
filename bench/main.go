// Command bench measures what the server costs beside the least that such a
// server can cost (bench/floor), on each store, in one run: processor time per
// request, the database's included, with throughput and latency beside it
// (docs/performance.md). It prints a table and writes bench/result.json. It
// starts everything itself, on this machine only, and is bounded in time.
//
//	go run ./bench                     all workloads, at most 5 minutes
//	go run ./bench -long               for 30 minutes
//	go run ./bench -workload refresh   those whose name contains this
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/countersign-dev/countersign/bench/load"
	"github.com/countersign-dev/countersign/bench/proc"
)

// rounds is how often each cell runs, with the other systems in between, so
// that a slow moment of the machine meets all of them.
const rounds = 2

// plan is what to measure.
type plan struct {
	workloads   []string
	connections []int
	limit       time.Duration // for all measuring together
	slice       time.Duration // at most, for one cell of one round
	floorOnly   bool          // leave the server out
}

// cell is what one workload cost on one system at one number of connections.
type cell struct {
	workload    string
	system      System
	connections int
	result      load.Result
	cpu         time.Duration
	rss         int64
}

// perRequest is the processor time of one request in milliseconds.
func (c *cell) perRequest() float64 {
	if c.result.Requests == 0 {
		return 0
	}
	return c.cpu.Seconds() * 1000 / float64(c.result.Requests)
}

func main() {
	only := flag.String("workload", "", "only those whose name contains this")
	connections := flag.String("connections", "1,16,64", "numbers of connections")
	limit := flag.Duration("for", 210*time.Second, "how long to measure, all together")
	long := flag.Bool("long", false, "measure for 30 minutes")
	out := flag.String("out", filepath.Join("bench", "result.json"), "where the figures go")
	flag.Parse()
	p := plan{limit: *limit, slice: 3 * time.Second}
	if *long {
		p.limit, p.slice = 30*time.Minute, time.Minute
	}
	for _, name := range workloads {
		if strings.Contains(name, *only) {
			p.workloads = append(p.workloads, name)
		}
	}
	for word := range strings.SplitSeq(*connections, ",") {
		n, err := strconv.Atoi(word)
		if err != nil || n < 1 || n > 1024 {
			fmt.Fprintf(os.Stderr, "bench: -connections: %q is not a number from 1 to 1024\n", word)
			os.Exit(2)
		}
		p.connections = append(p.connections, n)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, p, *out)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// besides bounds what is not measuring: building, starting, filling pools.
const besides = 75 * time.Second

// run starts the systems, measures, and reports. Cells that failed are told
// beside the report of the others.
func run(ctx context.Context, p plan, out string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, p.limit+besides)
	defer cancel()
	dir, err := os.MkdirTemp("", "countersign-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	systems, err := startAll(ctx, dir, p.floorOnly)
	defer func() {
		for _, s := range systems {
			s.Stop()
		}
	}()
	if err != nil {
		return err
	}
	life := map[System]*lifetime{}
	for _, s := range systems {
		if life[s], err = begin(s); err != nil {
			return err
		}
	}
	cells, faults := measure(ctx, p, systems)
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, s := range systems {
		life[s].end(s)
	}
	rows := compare(cells)
	printTable(os.Stdout, rows)
	printLifetimes(os.Stdout, systems, life)
	if err := writeJSON(out, rows); err != nil {
		return err
	}
	fmt.Println("\nwritten:", out)
	return errors.Join(faults...)
}

// measure runs every cell, systems interleaved.
func measure(ctx context.Context, p plan, systems []System) (cells []*cell, faults []error) {
	count := len(p.workloads) * len(p.connections) * len(systems) * rounds
	if count == 0 {
		return nil, []error{errors.New("nothing to measure")}
	}
	slice := min(p.slice, p.limit/time.Duration(count))
	for _, connections := range p.connections {
		for _, name := range p.workloads {
			fmt.Fprintf(os.Stderr, "bench: %s, %d connections\n", name, connections)
			c, f := measureOne(ctx, name, connections, slice, systems)
			cells, faults = append(cells, c...), append(faults, f...)
			if ctx.Err() != nil {
				return cells, faults
			}
		}
	}
	return cells, faults
}

// measureOne runs one workload at one number of connections on each system
// that offers it.
func measureOne(ctx context.Context, name string, connections int, slice time.Duration, systems []System) (cells []*cell, faults []error) {
	sessions := map[*cell]*load.Session{}
	defer func() {
		for _, s := range sessions {
			s.Close()
		}
	}()
	for _, system := range systems {
		w, err := system.Workload(name)
		if errors.Is(err, errNotOffered) {
			continue
		}
		c := &cell{workload: name, system: system, connections: connections}
		var s *load.Session
		if err == nil {
			s, err = load.Open(ctx, w, system.Addr(), connections)
		}
		if err == nil {
			sessions[c] = s
			_, err = s.Run(ctx, slice, 5*connections) // warm
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("%s on %s, %d connections: %w", name, system.Store(), connections, err))
			continue
		}
		cells = append(cells, c)
	}
	for range rounds {
		for _, c := range cells {
			if err := c.measure(ctx, sessions[c], slice); err != nil {
				faults = append(faults, fmt.Errorf("%s on %s, %d connections: %w", name, c.system.Store(), connections, err))
			}
		}
	}
	return cells, faults
}

// measure runs the cell once more and adds what it took.
func (c *cell) measure(ctx context.Context, s *load.Session, slice time.Duration) error {
	pids := c.system.Processes()
	before, err := proc.CPU(pids...)
	if err != nil {
		return err
	}
	r, err := s.Run(ctx, slice, 0)
	if err != nil {
		return err
	}
	after, err := proc.CPU(pids...)
	if err != nil {
		return err
	}
	c.result.Add(r)
	c.cpu += after - before
	c.rss, err = proc.RSS(pids[0])
	return err
}
