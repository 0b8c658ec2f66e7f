# bash completion for hawkwing
# Made from the parser of hawkwing/cli.py by `python -m lab.packages.texts`.

_hawkwing() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} words=""
  COMPREPLY=()
  if ((COMP_CWORD == 1)); then
    words="client server status reload detach drops capture explain check doctor version --help --version"
  else
    case $prev in
      -i | --interface)
        words=$(ls /sys/class/net 2>/dev/null)
        ;;
      --sr-domain)
        return
        ;;
      --csid)
        return
        ;;
      --ingress-hook)
        words="tc xdp xdp-generic"
        ;;
      --metrics)
        return
        ;;
      --log-format)
        words="text json"
        ;;
      -c | --config)
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return
        ;;
      --flows)
        return
        ;;
      --count)
        return
        ;;
      --output)
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
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
