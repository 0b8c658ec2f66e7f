# bash completion for hawkwing
# Made from the parser of hawkwing/cli.py by `python -m lab.packages.texts`.

_hawkwing() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} words=""
  COMPREPLY=()
  if ((COMP_CWORD == 1)); then
    words="client server status reload detach drops capture explain paths ping trace check doctor version --help --version"
  else
    case "${COMP_WORDS[1]} $prev" in
      "client -i" | "server -i" | "reload -i" | "detach -i" | "drops -i" | "capture -i" | *" --interface")
        words=$(ls /sys/class/net 2>/dev/null)
        ;;
      *" --sr-domain")
        return
        ;;
      *" --csid")
        return
        ;;
      *" --ingress-hook")
        words="tc xdp xdp-generic"
        ;;
      *" --metrics")
        return
        ;;
      *" --log-format")
        words="text json"
        ;;
      "client -c" | "server -c" | "check -c" | *" --config")
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return
        ;;
      *" --flows")
        return
        ;;
      *" --count")
        return
        ;;
      *" --output")
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return
        ;;
      *" --size")
        return
        ;;
      *" --sid")
        return
        ;;
      "ping -c" | "trace -c" | *" --count")
        return
        ;;
      "ping -i" | "trace -i" | *" --interval")
        return
        ;;
      *" -W" | *" --wait")
        return
        ;;
      *" --source")
        return
        ;;
      *" --ioam-namespace")
        return
        ;;
      *)
        case ${COMP_WORDS[1]} in
          client) words="-i --interface --sr-domain --csid --ingress-hook --keep --metrics --wait-for-interface --log-format -v --verbose -c --config --help" ;;
          server) words="-i --interface --sr-domain --csid --ingress-hook --keep --metrics --wait-for-interface --log-format -v --verbose -c --config --flows --help" ;;
          status) words="--json --watch --help" ;;
          reload) words="-i --interface client server --help" ;;
          detach) words="-i --interface client server --help" ;;
          drops) words="-i --interface --follow --json client server --help" ;;
          capture) words="-i --interface --count --output --help" ;;
          explain) words="--help" ;;
          paths) words="--measure --size --json --help" ;;
          ping) words="--sid --csid -c --count -i --interval -W --wait --source --size --json --help" ;;
          trace) words="--sid --csid -c --count -i --interval -W --wait --source --size --ioam --ioam-namespace --json --help" ;;
          check) words="-c --config --json --help" ;;
          doctor) words="--help" ;;
          version) words="--help" ;;
        esac
        if [[ ${COMP_WORDS[1]} == check && $cur != -* ]]; then
          compopt -o filenames 2>/dev/null
          mapfile -t COMPREPLY < <(compgen -f -- "$cur")
          return
        fi
        ;;
    esac
  fi
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}
complete -F _hawkwing hawkwing
