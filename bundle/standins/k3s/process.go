package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"
)

// How long a component may take to end in good order. The API server would wait longer for its clients.
const patience = 3 * time.Second

// supervisor runs the components. When one ends, the server ends, and systemd starts it anew.
type supervisor struct {
	programs programs
	running  []*exec.Cmd
	waiting  sync.WaitGroup
	fail     context.CancelCauseFunc
}

// start runs a component that ends when this process does, however that ends. The kernel counts the thread as the parent,
// so the caller must keep to one.
func (s *supervisor) start(name string, environment []string, arguments ...string) error {
	command := exec.Command(s.programs.path(name), arguments...)
	command.Args[0] = name
	command.Env = append(os.Environ(), environment...)
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	s.running = append(s.running, command)
	s.waiting.Go(func() { s.fail(fmt.Errorf("%s ended: %v", name, command.Wait())) })
	return nil
}

// stop ends the components, the last one first. Pods run on, as they do under k3s.
func (s *supervisor) stop() {
	for _, command := range slices.Backward(s.running) {
		_ = command.Process.Signal(syscall.SIGTERM)
	}
	ended := make(chan struct{})
	go func() {
		s.waiting.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(patience):
		for _, command := range s.running {
			_ = command.Process.Kill()
		}
		<-ended
	}
}

// output runs one of the programs to its end.
func (s *supervisor) output(ctx context.Context, name string, input []byte, arguments ...string) (string, error) {
	command := exec.CommandContext(ctx, s.programs.path(name), arguments...)
	command.Args[0] = name
	var words bytes.Buffer
	command.Stdin, command.Stderr = bytes.NewReader(input), &words
	output, err := command.Output()
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, arguments[0], err, bytes.TrimSpace(words.Bytes()))
	}
	return string(output), nil
}

// until asks again and again, and says in the end what the last answer was.
func until(ctx context.Context, condition string, met func() error) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := met()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w: %w", condition, context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

// notifyReady tells systemd, where it started this process.
func notifyReady(socket string) error {
	if socket == "" {
		return nil
	}
	connection, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer connection.Close()
	_, err = connection.Write([]byte("READY=1"))
	return err
}
