target_link_libraries(sonde_cli PUBLIC PkgConfig::LIBEDIT)
target_compile_definitions(sonde_cli PUBLIC SONDE_VERSION="${PROJECT_VERSION}")
