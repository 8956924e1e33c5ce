# The product builds with the Go toolchain alone; everything else here is for
# those who change it. `make run` starts the sandbox, `make test` proves it all.

GO         ?= go
BIN        := $(CURDIR)/.bin
GOFUMPT    := mvdan.cc/gofumpt@v0.12.0
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

export GO BIN GOFUMPT STATICCHECK

.PHONY: run build release test bench bench-long trust lint fmt generate tools clean

run: ## the server with a sample API, on this machine only
	@$(GO) run ./cmd/countersignd sandbox

build: ## both programs, in bin/
	@CGO_ENABLED=0 $(GO) build -trimpath -o bin/ ./cmd/...

release: ## archives for six systems, checksums and lists of parts in dist/, built twice and compared
	@$(GO) run ./release

test: ## everything, within the budgets of docs/architecture.md; installs what it needs, once
	@scripts/test.sh

lint: ## gofumpt, vet, staticcheck and the rules of the house
	@scripts/tools.sh go
	@scripts/lint.sh

fmt:
	@scripts/tools.sh go
	@git ls-files -z --cached --others --exclude-standard '*.go' ':!*_templ.go' | xargs -r0 $(BIN)/gofumpt -w

generate: ## the pages' generated code, which is committed
	@$(GO) tool templ generate

bench: ## CPU per request against the floor of the same run, at most 5 minutes
	@$(GO) run ./bench

bench-long: ## the same, longer, and with scale
	@$(GO) run ./bench -long

trust: ## the long campaigns: kills, races, faults; FIGURES=-update-figures writes docs/trust.md
	@scripts/tools.sh
	@COUNTERSIGN_TRUST=full $(GO) test -count=1 -timeout 1h -run RandomPolicies -v ./internal/policy
	@COUNTERSIGN_TRUST=full $(GO) test -count=1 -timeout 1h -run '^TestAHundredThousandRecordsInHalfAMinute$$' -v ./internal/act
	@COUNTERSIGN_TRUST=full $(GO) test -count=1 -timeout 1h -run '^TestRates$$' -v ./internal/risk
	@COUNTERSIGN_TRUST=full COUNTERSIGN_REQUIRE_POSTGRES=1 $(GO) test -count=1 -p 1 -timeout 3h ./internal/store/...
	@COUNTERSIGN_TRUST=full COUNTERSIGN_REQUIRE_POSTGRES=1 $(GO) test -count=1 -p 1 -timeout 8h -v ./test/trust $(FIGURES)

tools:
	@scripts/tools.sh

clean:
	@rm -rf bin dist .bin test/browser/node_modules test/interop/node_modules
