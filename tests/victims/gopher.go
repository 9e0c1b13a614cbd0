// SPDX-License-Identifier: Apache-2.0

// A Go program at work: goroutines, timers, a heap that is collected, a map, channels; all of it checked.
//
//	check -> "ok COUNT"    park -> "parked" (until the next command)    quit -> "bye", status 7
package main

import (
	"bufio"
	"fmt"
	"hash/fnv"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	workers = 8
	keys    = 20000
)

type node struct {
	value       uint64
	left, right *node
}

type job struct {
	sync.Mutex
	counts map[uint64]uint64
	total  uint64
	tree   *node
	nodes  int
	gate   sync.RWMutex // workers hold it for reading while they work; the holder of the write lock has parked them
	quit   int32
}

func fail(format string, arguments ...interface{}) {
	fmt.Printf("FAIL "+format+"\n", arguments...)
	os.Exit(99)
}

func insert(root *node, value uint64) *node {
	if root == nil {
		return &node{value: value}
	}
	if value < root.value {
		root.left = insert(root.left, value)
	} else {
		root.right = insert(root.right, value)
	}
	return root
}

func size(root *node, low, high uint64) int {
	if root == nil {
		return 0
	}
	if root.value < low || root.value > high {
		fail("tree: %d is not in %d..%d", root.value, low, high)
	}
	return 1 + size(root.left, low, root.value) + size(root.right, root.value, high)
}

// Grows the goroutine's stack, which moves it.
func deep(level int) int {
	var frame [64]int
	for i := range frame {
		frame[i] = level + i
	}
	if level > 0 {
		return deep(level-1) + frame[level%64] - level - level%64
	}
	return frame[0]
}

func (j *job) round(state *uint64) {
	j.gate.RLock()
	defer j.gate.RUnlock()
	garbage := make([][]byte, 0, 16)
	for i := 0; i < 50; i++ {
		*state = *state*6364136223846793005 + 1442695040888963407
		hash := fnv.New64a()
		fmt.Fprintf(hash, "%d", *state)
		garbage = append(garbage, make([]byte, *state%4096))
		j.Lock()
		j.counts[*state%keys]++
		j.total++
		if j.nodes < 50000 {
			j.tree = insert(j.tree, hash.Sum64())
			j.nodes++
		}
		j.Unlock()
	}
	if deep(int(*state%500)) != 0 {
		fail("stack")
	}
	runtime.KeepAlive(garbage)
}

func (j *job) work(number uint64, done *sync.WaitGroup) {
	defer done.Done()
	state := number
	for atomic.LoadInt32(&j.quit) == 0 {
		j.round(&state)
		time.Sleep(time.Duration(state % 1000000))
	}
}

func (j *job) check() uint64 {
	j.Lock()
	defer j.Unlock()
	sum := uint64(0)
	for key, count := range j.counts {
		if key >= keys {
			fail("map: key %d", key)
		}
		sum += count
	}
	if sum != j.total {
		fail("map: %d, counted %d", sum, j.total)
	}
	if found := size(j.tree, 0, ^uint64(0)); found != j.nodes {
		fail("tree: %d nodes, counted %d", found, j.nodes)
	}
	runtime.GC()
	return sum
}

func main() {
	j := &job{counts: make(map[uint64]uint64)}
	var done sync.WaitGroup
	for number := uint64(1); number <= workers; number++ {
		done.Add(1)
		go j.work(number, &done)
	}
	input := bufio.NewReader(os.Stdin)
	time.Sleep(time.Millisecond) // the first timer makes the runtime open its epoll and pipe: now, not later unasked
	fmt.Println("ready", os.Getpid())
	parked := false
	for {
		line, _ := input.ReadString('\n')
		if parked {
			j.gate.Unlock()
			parked = false
		}
		switch command := strings.TrimSpace(line); command {
		case "check":
			fmt.Println("ok", j.check())
		case "park":
			j.gate.Lock()
			parked = true
			debug.FreeOSMemory() // collects, sweeps and discards now, so that nothing of it happens in the background
			fmt.Println("parked")
		default:
			atomic.StoreInt32(&j.quit, 1)
			done.Wait()
			fmt.Println("bye")
			os.Exit(7)
		}
	}
}
