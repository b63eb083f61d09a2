// The baseline of seal: Tessera's POSIX log appends the leaves that seal has sealed.
//
// A job stands on standard input, one line of JSON. Standard output has a line when the entries are in memory
// and one when all are under a published checkpoint. It ends with its input, and at once where that ends
// before: then nobody waits for it any more.
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"syscall"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
)

const (
	// origin is the name of the log, and of its key.
	origin = "attestream.loadtest/tessera"
	// maxEntriesBytes bounds what is held in memory: some 19 million leaves.
	maxEntriesBytes = 1 << 30
	maxBatch        = 1 << 20
	// minCheckpointMS is the shortest interval that Tessera's POSIX driver takes.
	minCheckpointMS = 100
	// pollPeriod is how often the published checkpoint is looked at in the end, as in Tessera's own example.
	pollPeriod = 100 * time.Millisecond
	// batchesAhead entries are being added while their index is not known yet, so that no batch waits for us.
	batchesAhead = 2
)

// job says what is to be done. All members are needed.
type job struct {
	// Entries is a file: each entry behind its 16-bit big-endian length, as in entry bundles of C2SP tlog-tiles.
	Entries string `json:"entries"`
	// Folder is where the log is made; it has none yet.
	Folder       string `json:"folder"`
	BatchSize    uint   `json:"batch_size"`
	BatchAgeMS   uint   `json:"batch_age_ms"`
	CheckpointMS uint   `json:"checkpoint_ms"`
}

// result is what the whole of it took, by this process' own account.
type result struct {
	Over    bool    `json:"over"`
	Entries int     `json:"entries"`
	Seconds float64 `json:"seconds"`
	UserS   float64 `json:"user_s"`
	SystemS float64 `json:"system_s"`
	RSSMiB  float64 `json:"rss_mib"`
}

func main() {
	input := bufio.NewReader(os.Stdin)
	if err := run(input, json.NewEncoder(os.Stdout)); err != nil {
		fmt.Fprintf(os.Stderr, "tessera: %v\n", err)
		os.Exit(1)
	}
}

func run(input *bufio.Reader, say *json.Encoder) error {
	asked, err := readJob(input)
	if err != nil {
		return err
	}
	entries, err := readEntries(asked.Entries)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, input)
		close(ended)
	}()
	private, public, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		return err
	}
	if err := say.Encode(map[string]any{"ready": true, "entries": len(entries), "key": public}); err != nil {
		return err
	}
	done := make(chan error, 1)
	var found result
	go func() {
		var err error
		found, err = appendAll(ctx, asked, entries, private)
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			return err
		}
	case <-ended:
		return errors.New("the input ended before the work did")
	}
	if err := say.Encode(found); err != nil {
		return err
	}
	// Whoever listens looks at this process once more before it is gone.
	<-ended
	return nil
}

// readJob reads the one line of the job.
func readJob(input *bufio.Reader) (job, error) {
	var asked job
	line, err := input.ReadBytes('\n')
	if err != nil {
		return asked, fmt.Errorf("no job on standard input: %w", err)
	}
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&asked); err != nil {
		return asked, fmt.Errorf("the job is none: %w", err)
	}
	if asked.Entries == "" || asked.Folder == "" {
		return asked, errors.New("the job names no entries or no folder")
	}
	if asked.BatchSize < 1 || asked.BatchSize > maxBatch || asked.BatchAgeMS < 1 {
		return asked, fmt.Errorf("the job has no batch of 1 to %d entries and at least 1 ms", maxBatch)
	}
	if asked.CheckpointMS < minCheckpointMS {
		return asked, fmt.Errorf("the job has no interval of %d ms or more", minCheckpointMS)
	}
	return asked, nil
}

// readEntries reads all entries into memory: what comes to a log does not come from a disk.
func readEntries(path string) ([][]byte, error) {
	about, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if about.Size() > maxEntriesBytes {
		return nil, fmt.Errorf("%s has %d bytes, more than %d", path, about.Size(), maxEntriesBytes)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var entries [][]byte
	for at := 0; at < len(data); {
		if at+2 > len(data) {
			return nil, fmt.Errorf("%s ends within the length of entry %d", path, len(entries))
		}
		end := at + 2 + int(binary.BigEndian.Uint16(data[at:]))
		if end > len(data) {
			return nil, fmt.Errorf("%s ends within entry %d", path, len(entries))
		}
		entries = append(entries, data[at+2:end:end])
		at = end
	}
	if len(entries) == 0 {
		return nil, fmt.Errorf("%s has no entries", path)
	}
	return entries, nil
}

// appendAll adds all entries, and returns when a published checkpoint covers the last of them.
func appendAll(ctx context.Context, asked job, entries [][]byte, private string) (result, error) {
	began := time.Now()
	signer, err := note.NewSigner(private)
	if err != nil {
		return result{}, err
	}
	driver, err := posix.New(ctx, posix.Config{Path: asked.Folder})
	if err != nil {
		return result{}, err
	}
	// What is not named here is as Tessera has it: every file is synced, and there is no antispam.
	options := tessera.NewAppendOptions().
		WithCheckpointSigner(signer).
		WithCheckpointInterval(time.Duration(asked.CheckpointMS)*time.Millisecond).
		WithBatching(asked.BatchSize, time.Duration(asked.BatchAgeMS)*time.Millisecond)
	appender, shutdown, reader, err := tessera.NewAppender(ctx, driver, options)
	if err != nil {
		return result{}, err
	}
	last, err := addAll(ctx, appender, entries, batchesAhead*int(asked.BatchSize))
	if err != nil {
		return result{}, err
	}
	awaiter := tessera.NewPublicationAwaiter(ctx, reader.ReadCheckpoint, pollPeriod)
	index, _, err := awaiter.Await(ctx, last)
	if err != nil {
		return result{}, err
	}
	if index.Index+1 != uint64(len(entries)) {
		return result{}, fmt.Errorf("the last of %d entries has index %d", len(entries), index.Index)
	}
	found, err := account(len(entries), time.Since(began))
	if err != nil {
		return result{}, err
	}
	return found, shutdown(ctx)
}

// addAll adds entries one by one, never more than `ahead` whose index is not known, and returns the last future.
func addAll(
	ctx context.Context, appender *tessera.Appender, entries [][]byte, ahead int,
) (tessera.IndexFuture, error) {
	futures := make([]tessera.IndexFuture, min(ahead, len(entries)))
	for number, entry := range entries {
		place := number % len(futures)
		if futures[place] != nil {
			if _, err := futures[place](); err != nil {
				return nil, fmt.Errorf("entry %d: %w", number-len(futures), err)
			}
		}
		futures[place] = appender.Add(ctx, tessera.NewEntry(entry))
	}
	for _, future := range futures {
		if _, err := future(); err != nil {
			return nil, err
		}
	}
	return futures[(len(entries)-1)%len(futures)], nil
}

// account asks the kernel what this process has used.
func account(entries int, took time.Duration) (result, error) {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return result{}, err
	}
	perMiB := 1024.0 // KiB
	if runtime.GOOS == "darwin" {
		perMiB = 1 << 20
	}
	return result{
		Over:    true,
		Entries: entries,
		Seconds: took.Seconds(),
		UserS:   time.Duration(usage.Utime.Nano()).Seconds(),
		SystemS: time.Duration(usage.Stime.Nano()).Seconds(),
		RSSMiB:  float64(usage.Maxrss) / perMiB,
	}, nil
}
