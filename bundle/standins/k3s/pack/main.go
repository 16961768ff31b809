// Puts programs behind the launcher, as an archive that the launcher finds in itself: pack OUTPUT LAUNCHER PROGRAM...
package main

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
)

func main() {
	if len(os.Args) < 4 {
		fmt.Fprintln(os.Stderr, "usage: pack OUTPUT LAUNCHER PROGRAM...")
		os.Exit(2)
	}
	if err := pack(os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func pack(output, launcher string, programs []string) error {
	packed, err := os.OpenFile(output, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	return errors.Join(write(packed, launcher, programs), packed.Close())
}

func write(packed io.Writer, launcher string, programs []string) error {
	code, err := os.ReadFile(launcher)
	if err != nil {
		return err
	}
	if _, err := packed.Write(code); err != nil {
		return err
	}
	archive := zip.NewWriter(packed)
	archive.SetOffset(int64(len(code)))
	archive.RegisterCompressor(zstd.ZipMethodWinZip, zstd.ZipCompressor(zstd.WithEncoderLevel(zstd.SpeedDefault)))
	for _, program := range programs {
		if err := add(archive, program); err != nil {
			return fmt.Errorf("%s: %w", program, err)
		}
	}
	return archive.Close()
}

func add(archive *zip.Writer, program string) error {
	content, err := os.Open(program)
	if err != nil {
		return err
	}
	defer content.Close()
	entry, err := archive.CreateHeader(&zip.FileHeader{Name: filepath.Base(program), Method: zstd.ZipMethodWinZip})
	if err != nil {
		return err
	}
	_, err = io.Copy(entry, content)
	return err
}
